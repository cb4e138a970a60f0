"""Sweeps: plan the runs of a table, execute them side by side, collect their results."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "collection": "SCORE_COLUMNS collect of_one_scale outdated read_frame read_results seeds_in write_results",
    "dask_executor": "DaskExecutor",
    "estimate": "dry_run",
    "execution": "execute outcome_text",
    "local_executor": "LocalExecutor gpu_slots cpu_slots",
    "planning": "PlannedRun plan runs_folder",
    "prepare": "LEAST_AP prepare_shared",
    "slurm_executor": "SlurmExecutor",
    "spec": "INSTALLED Sweep ablations_folder load_sweep of_scale results_file sweep_names",
    "worker": "KERNEL cpu_environment load_papermill",
})
