"""Settings that most methods share, refused at the door with what must be, what came."""


def check_weights(**weights: float) -> None:
    """A weight is finite and not negative; 0 removes its term and its layers.

    Raises:
        ValueError: any other weight, by its name.
    """
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"{name} must be a finite number >= 0, got {weight}; 0 leaves the term out")


def check_positive(**settings: float) -> None:
    """A temperature or a size is finite and above 0.

    Raises:
        ValueError: any other value, by its name.
    """
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a finite number > 0, got {value}")
