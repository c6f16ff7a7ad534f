"""`wattbench cache`."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.console import Console
from harness.errors import HarnessError, suggest_name

if TYPE_CHECKING:
    from harness.store.inventory import CacheItem


def cache(
    console: Console,
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KIND]...", help="only these kinds of items, or all"),
    ] = None,
    older_than: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="only what was not used for so many days")
    ] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="remove what is listed; needs a KIND")
    ] = False,
) -> None:
    """List what lies in the cache, and remove what is not needed.

    Without a KIND the kinds are listed with their sizes, with one its items, the largest first.
    Everything that is removed is built or downloaded again when it is needed; what another process
    is just making stays.
    """
    from harness.store.cache import cache_dir
    from harness.store.inventory import KINDS, list_items

    names = _select_kinds(kinds or [])
    if prune and not names:
        raise HarnessError(f"--prune needs a KIND. Choose from: {', '.join(KINDS)}, or all.")
    items = [item for item in list_items(names or KINDS) if item.age_days >= older_than]
    if prune:
        _prune(items, console)
        return
    if items:
        console.print_table(_list_items(items) if names else _list_kinds(items))
    total = _format_size(sum(item.size for item in items))
    console(f"{_count(len(items))}, {total} in {cache_dir()}")


def _select_kinds(names: list[str]) -> list[str]:
    from harness.store.inventory import KINDS

    for name in names:
        if name not in (*KINDS, "all"):
            raise HarnessError(f"{name!r} is not a kind of items. {suggest_name(name, KINDS)}")
    return list(KINDS) if "all" in names else list(dict.fromkeys(names))


def _prune(items: "list[CacheItem]", console: Console) -> None:
    from harness.store.inventory import remove_item

    count = size = 0
    for item in items:
        if remove_item(item):
            count, size = count + 1, size + item.size
        else:
            console(f"kept, since a process uses it: {item.path}")
    console(f"removed: {_count(count)}, {_format_size(size)}")


def _list_kinds(items: "list[CacheItem]") -> list[dict[str, object]]:
    from harness.store.inventory import KINDS

    rows = []
    for kind, description in KINDS.items():
        of_kind = [item for item in items if item.kind == kind]
        if of_kind:
            size = _format_size(sum(item.size for item in of_kind))
            rows.append(
                {"kind": kind, "items": len(of_kind), "size": size, "what it is": description}
            )
    return rows


def _list_items(items: "list[CacheItem]") -> list[dict[str, object]]:
    from harness.store.inventory import KINDS

    return [
        {
            "item": f"{item.kind}/{item.path.name[:16]}",
            "size": _format_size(item.size),
            "last used": time.strftime("%Y-%m-%d", time.localtime(item.last_used)),
            "what it is": item.description or KINDS[item.kind],
        }
        for item in sorted(items, key=lambda item: item.size, reverse=True)
    ]


def _count(items: int) -> str:
    return f"{items} item" if items == 1 else f"{items} items"


def _format_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
