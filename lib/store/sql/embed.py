#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns SQL files into a C header of string constants: embed.py OUT.h A.sql B.sql ..."""
import pathlib
import sys


def literal(text):
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith('--')]
    quoted = [line.replace('\\', '\\\\').replace('"', '\\"') for line in lines]
    return '\n'.join(f'    "{line}\\n"' for line in quoted)


def main():
    out = ['/* Made from lib/store/sql by embed.py. */', '#ifndef KEI_STORE_SQL_H',
           '#define KEI_STORE_SQL_H', '']
    for name in sys.argv[2:]:
        path = pathlib.Path(name)
        out += [f'#define KEI_SQL_{path.stem.upper()} \\',
                literal(path.read_text(encoding='utf-8')).replace('\n', ' \\\n'), '']
    out.append('#endif')
    pathlib.Path(sys.argv[1]).write_text('\n'.join(out) + '\n', encoding='utf-8')


main()
