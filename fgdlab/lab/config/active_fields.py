"""Which settings a run uses. Two configurations that differ only in settings that they do not use are the same run."""
from .run_config import DEFAULTS, RunConfig, settings_about


def distils(config: RunConfig) -> bool:
    """Is there a distillation loss, for which the run needs a teacher?"""
    return config.method != "none" and config.strength > 0 and (config.method != "fgd" or bool(config.fgd().weights()))


def has_teacher(config: RunConfig) -> bool:
    """Does the run need its teacher: to learn from it, or to start from its head?"""
    return distils(config) or config.inherit


def active_settings(config: RunConfig) -> RunConfig:
    """The same run with every setting that it does not use at its default."""
    return config.but(
        **{name: DEFAULTS[name] for name in unused_settings(distils(config), config.method, has_teacher(config))}
    )


def unused_settings(distils: bool, method: str, has_teacher: bool) -> tuple[str, ...]:
    of_fgd = () if method in ("fgd", "fgd_ld") else settings_about("fgd")
    unused = of_fgd if distils else settings_about("method", "fgd")
    return unused if has_teacher else (*unused, *settings_about("teacher"))
