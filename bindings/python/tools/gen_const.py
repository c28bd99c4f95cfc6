#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Writes kubeedge/_const.py from the library's headers: gen_const.py [--check] [INCLUDE_FOLDER]

--check writes nothing and fails when the file that is checked in says something else.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE.parent / "kubeedge" / "_const.py"
NUMBER = re.compile(r"^#define (KE_[A-Z0-9_]+) \(?(-?(?:0x[0-9a-fA-F]+|[0-9]+))u?\)?(?:\s|$)", re.M)

HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""The constants of the C headers. Written by tools/gen_const.py: do not edit."""
from typing import Dict, Final
'''


def constants(include: pathlib.Path) -> "dict[str, list[tuple[str, int]]]":
    """The numeric constants of each header, in their order."""
    found = {}
    for header in sorted(include.rglob("*.h")):
        pairs = [(name, int(value, 0)) for name, value in NUMBER.findall(header.read_text(encoding="utf-8"))]
        if pairs:
            found[str(header.relative_to(include))] = pairs
    return found


def render(include: pathlib.Path) -> str:
    lines = [HEAD]
    errors = []
    for header, pairs in constants(include).items():
        lines.append(f"\n# {header}\n")
        for name, value in pairs:
            shown = hex(value) if value > 0xFFFF else str(value)
            lines.append(f"{name}: Final = {shown}\n")
        if header == "err.h":
            errors = [name for name, value in pairs if value <= 0]
    lines.append("\nERROR_NAMES: Final[Dict[int, str]] = {\n")
    lines += [f'    {name}: "{name}",\n' for name in errors]
    lines.append("}\n")
    return "".join(lines)


def main() -> int:
    args = [a for a in sys.argv[1:] if a != "--check"]
    include = pathlib.Path(args[0]) if args else HERE.parents[2] / "include" / "kubeedge"
    text = render(include)
    if "--check" not in sys.argv[1:]:
        OUTPUT.write_text(text, encoding="utf-8")
        return 0
    if OUTPUT.read_text(encoding="utf-8") == text:
        return 0
    print(f"{OUTPUT} is not what {include} says: run {sys.argv[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
