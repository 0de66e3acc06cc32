"""Reading of ``--config`` files: YAML or JSON with plain values. Any defect is an ArgumentError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checks import ArgumentError
from ..checks import shown as shown

#: bytes of the largest file that is read
LARGEST = 1 << 20


def read_config(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file; ``-`` in a name becomes ``_``. Raises ArgumentError for
    anything else and for a duplicate name."""
    import yaml

    with Path(path).open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ArgumentError(f"{str(path)!r} is larger than {LARGEST} bytes: not a file of settings")
    try:
        found = yaml.load(data.decode(), Loader=_loader())
    except RecursionError:
        raise ArgumentError(f"{str(path)!r} is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ArgumentError(
            f"{str(path)!r} is not readable YAML: {' '.join(str(error).split())}"
        ) from None
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"{str(path)!r} is not readable YAML: it is not UTF-8 ({error.reason} at byte "
            f"{error.start})"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        # raised by PyYAML's readers of tags, dates and numbers
        raise ArgumentError(
            f"{str(path)!r} is not readable YAML: a value does not fit its tag or its form"
        ) from None
    if not isinstance(found, dict):
        raise ArgumentError(
            f"{str(path)!r} holds a {type(found).__name__}; must hold settings, one `name: "
            "value` a line"
        )
    out: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_") if isinstance(key, str) else shown(key)
        if name in out:
            raise ArgumentError(f"{str(path)!r}: {name!r} is given twice")
        out[name] = value
    return out


def _loader() -> Any:
    """PyYAML's safe loader that also refuses duplicate names and aliases; aliases are not needed in
    settings and let a short text grow without bound."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        """Plain values; no aliases, no duplicate names."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.composer.ComposerError(
                    None, None, f"the alias *{event.anchor}: write the value out", event.start_mark
                )
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names: set[str] = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if key.value in names if isinstance(key, yaml.ScalarNode) else False:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value!r} is given twice", key.start_mark
                    )
                names.update([key.value] if isinstance(key, yaml.ScalarNode) else ())
            return super().construct_mapping(node, deep)

    return Loader
