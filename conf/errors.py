"""The one exception that means: the request was wrong, and here is how."""


class UsageError(ValueError):
    """A mistake in what was asked for: unknown name, wrong type, damaged or missing file.

    The message is one plain sentence that names the setting and the legal values. The command
    lines print it and exit with status 2; from Python it is an ordinary ``ValueError``.
    """


def unknown_name(setting: str, name: object, known: object) -> UsageError:
    """Say that ``setting`` cannot be ``name``, and list what it can be, alphabetically."""
    names = ", ".join(sorted(str(k) for k in known))  # type: ignore[attr-defined]
    return UsageError(f"{setting}={name} is unknown; choose one of: {names}.")


def at_least(least: float, group: str, **settings: float | None) -> None:
    """Refuse what lies below ``least`` of the ``settings`` of a group of the configuration.

    None stands for no limit. Raises :class:`UsageError`.
    """
    for name, value in settings.items():
        if value is not None and value < least:
            raise UsageError(f"{group}.{name}={value} must be at least {least}.")


def positive(group: str, **settings: float) -> None:
    """Refuse what is not above 0 of the ``settings`` of a group. Raises :class:`UsageError`."""
    for name, value in settings.items():
        if not value > 0:
            raise UsageError(f"{group}.{name}={value} must be positive.")
