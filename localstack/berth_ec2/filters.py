"""Filters, pages and client tokens: what EC2's calls have in common. Knows no resource."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from berth_ec2 import refusals

Item = TypeVar("Item")
Filters = Mapping[str, Sequence[str]]
LEAST, MOST = 5, 1_000
"""Sizes of pages (documentation)."""


def check(filters: Filters, known: Collection[str]) -> None:
    """An unknown name is refused even when nothing would be compared with it (field)."""
    for name in filters:
        if not name.startswith("tag:") and name != "tag-key" and name not in known:
            raise refusals.unknown_filter(name)


def matches(filters: Filters, tags: Mapping[str, str], values: Callable[[str], Iterable[str]]) -> bool:
    """Does a thing with these tags match all filters? `values` gives what it has under a filter's name."""
    return all(
        any(like(pattern, value) for value in _values(name, tags, values) for pattern in patterns)
        for name, patterns in filters.items()
    )


def _values(name: str, tags: Mapping[str, str], values: Callable[[str], Iterable[str]]) -> Iterable[str]:
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return [tags[key]] if key in tags else []
    return list(tags) if name == "tag-key" else values(name)


def like(pattern: str, text: str) -> bool:
    """`*` is any text, `?` any character (documentation)."""
    parts = ({"*": ".*", "?": "."}.get(part, re.escape(part)) for part in re.split(r"([*?])", pattern))
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def page(
    items: Iterable[tuple[int, Item]], size: int | None, token: str | None, most: int = MOST
) -> tuple[list[Item], str | None]:
    """One page, and the token of the next. Items come with a number that only grows, so that a page goes on where the last
    one ended whatever was made or deleted in between."""
    if size is not None and not LEAST <= size <= most:
        raise refusals.page_size(LEAST, most, size)
    after = -1
    if token is not None:
        try:
            after = int(token, 16)
        except ValueError:
            raise refusals.page_token() from None
    rest = sorted(((serial, item) for serial, item in items if serial > after), key=lambda pair: pair[0])
    if size is None or len(rest) <= size:
        return [item for _, item in rest], None
    return [item for _, item in rest[:size]], f"{rest[size - 1][0]:016x}"


class Tokens:
    """Calls that were made with a client token. A call that was refused leaves its token free."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[str, Any]] = {}

    def once(self, action: str, token: str | None, arguments: Mapping[str, Any], make: Callable[[], Item]) -> Item:
        """What `make` gave when it was first called with this token."""
        if not token:
            return make()
        said = json.dumps(arguments, sort_keys=True, default=str)
        before = self._made.get((action, token))
        if before is None:
            before = self._made[action, token] = (said, make())
        if before[0] != said:
            raise refusals.token_mismatch()
        made: Item = before[1]
        return made
