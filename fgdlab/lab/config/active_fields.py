"""Which knobs a run uses. Two configurations that differ in idle knobs alone are the same run, and should be run once.

    RunConfig --essential--> the same with every idle knob at its default --> run id, run folder
"""
from dataclasses import fields

from .run_config import RunConfig

FGD_SETTINGS = (
    "alpha", "beta", "gamma", "lambda_", "temperature", "area", "spatial_attention", "channel_attention", "relation", "rounding", "frame", "axes", "attention_of",
    "fused",
)
METHOD_SETTINGS = ("method", "strength", "loss_ratio", "equal_terms", "levels", "method_parts", "teacher_cache", "teacher_cache_gb")
TEACHER_SETTINGS = ("teacher", "teacher_checkpoint", "teacher_parts", "teacher_epochs", "teacher_lr", "teacher_batch_size", "teacher_seed", "teacher_floor")


def distils(config: RunConfig) -> bool:
    """Whether a run's settings leave anything of a distillation, so that a teacher has to be imitated."""
    return config.method != "none" and config.strength > 0 and (config.method != "fgd" or bool(config.fgd().weights()))


def has_teacher(config: RunConfig) -> bool:
    """Whether a run needs its teacher at all: to learn from it, or to start from its head."""
    return distils(config) or config.inherit


def active_settings(config: RunConfig) -> RunConfig:
    """The same run with every knob that it does not use at its default: a plain student has no weights of a loss, a rival none of FGD's."""
    idle: tuple[str, ...] = ()
    if not distils(config):
        idle = METHOD_SETTINGS + FGD_SETTINGS
    elif config.method != "fgd":
        idle = FGD_SETTINGS
    if not has_teacher(config):
        idle += TEACHER_SETTINGS
    return config.but(**{each.name: each.default for each in fields(RunConfig) if each.name in idle})
