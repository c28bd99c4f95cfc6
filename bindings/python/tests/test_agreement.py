# SPDX-License-Identifier: Apache-2.0
"""The hand-written tables against the headers and against what the compiler made of them."""
import ast
import ctypes
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from kubeedge import _const, _ffi, _struct

PACKAGE = pathlib.Path(_ffi.__file__).parent
ROOT = PACKAGE.parents[2]
INCLUDE = ROOT / "include"

STRUCTS = [
    kind
    for _, kind in inspect.getmembers(_struct, inspect.isclass)
    if issubclass(kind, _struct.Struct) and kind is not _struct.Struct
]
HANDLES = [
    kind
    for _, kind in inspect.getmembers(_struct, inspect.isclass)
    if issubclass(kind, ctypes.c_void_p) and kind is not ctypes.c_void_p
]


def headers():
    text = "".join(p.read_text() for p in sorted(INCLUDE.rglob("*.h")) + sorted(INCLUDE.rglob("*.h.in")))
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.S)


# ---- the two sides' types in the same words ----


def describe(kind):
    """A ctypes type: int32, uint64, char, void, *struct ke_x, *void, *char, *(...), **..., [n]..."""
    if kind is None:
        return "void"
    if issubclass(kind, ctypes._CFuncPtr):
        return "*" + describe_function(kind._argtypes_, kind._restype_)
    if kind in HANDLES:
        return "*" + kind.__doc__.rstrip(" *")
    if issubclass(kind, _struct.Struct):
        return "struct " + kind.c_name
    if kind is ctypes.c_void_p:
        return "*void"
    if kind is ctypes.c_char_p:
        return "*char"
    if kind is ctypes.c_char:
        return "char"
    if issubclass(kind, ctypes._Pointer):
        return "*" + describe(kind._type_)
    if issubclass(kind, ctypes.Array):
        return f"[{kind._length_}]{describe(kind._type_)}"
    signed = kind(-1).value < 0
    return f"{'int' if signed else 'uint'}{ctypes.sizeof(kind) * 8}"


def describe_function(argtypes, restype):
    return f"({', '.join(describe(a) for a in argtypes)}) {describe(restype)}"


class Abi:
    """The library's debug information, as abidw writes it."""

    def __init__(self, path):
        out = subprocess.run(["abidw", "--no-show-locs", path], check=True, capture_output=True, text=True).stdout
        root = ET.fromstring(out)
        self.exported = {e.get("name") for e in root.iter("elf-symbol") if e.get("type") == "func-type"}
        self.types, self.functions, self.structs = {}, {}, {}
        for e in root.iter():
            if e.get("id") is not None:
                self.types[e.get("id")] = e
            if e.tag == "function-decl":
                self.functions.setdefault(e.get("name"), e)
            if e.tag == "class-decl" and e.find("data-member") is not None:
                self.structs.setdefault(e.get("name"), e)

    def describe(self, type_id):
        e = self.types[type_id]
        if e.tag in ("typedef-decl", "qualified-type-def"):
            return self.describe(e.get("type-id"))
        if e.tag == "pointer-type-def":
            return "*" + self.describe(e.get("type-id"))
        if e.tag == "function-type":
            return self.describe_function(e)
        if e.tag == "class-decl":
            return "struct " + e.get("name")
        if e.tag == "array-type-def":
            return f"[{e.find('subrange').get('length')}]{self.describe(e.get('type-id'))}"
        assert e.tag == "type-decl", e.tag
        name = e.get("name")
        if name in ("void", "char"):
            return name
        return f"{'uint' if name.startswith('unsigned') else 'int'}{e.get('size-in-bits')}"

    def describe_function(self, e):
        args = [self.describe(p.get("type-id")) for p in e.findall("parameter")]
        return f"({', '.join(args)}) {self.describe(e.find('return').get('type-id'))}"

    def members(self, name):
        for m in self.structs[name].findall("data-member"):
            var = m.find("var-decl")
            yield var.get("name"), int(m.get("layout-offset-in-bits")) // 8, self.describe(var.get("type-id"))


@pytest.fixture(scope="module")
def abi():
    return Abi(os.environ["KUBEEDGE_LIB"])


# Bytes without a terminator are a void * to ctypes where Python hands bytes over, and the other way round.
SAME = {
    ("*void", "*char"),
    ("*char", "*void"),
}


def same(ours, theirs):
    return ours == theirs or (ours, theirs) in SAME


# ---- names ----


def test_names_agree(abi):
    ours = set(_ffi.PROTOTYPES)
    declared = set(re.findall(r"KE_API\b[^;{]*?\b(ke_\w+)\s*\(", headers()))
    script = re.sub(r"#[^\n]*", "", (ROOT / "lib" / "libkubeedge.map").read_text())
    assert ours == declared
    assert ours == set(re.findall(r"\b(ke_\w+);", script))
    assert ours == {name for name in abi.exported if name.startswith("ke_")}


def test_every_struct_and_handle_of_the_headers_is_mirrored():
    text = headers()
    defined = set(re.findall(r"^struct (ke_\w+) \{", text, flags=re.M))
    opaque = set(re.findall(r"^struct (ke_\w+);", text, flags=re.M)) - defined
    assert {kind.c_name for kind in STRUCTS} == defined
    assert {kind.__doc__ for kind in HANDLES} == {f"struct {name} *" for name in opaque}


# ---- functions ----


@pytest.mark.parametrize("name", sorted(_ffi.PROTOTYPES))
def test_function(abi, name):
    ours = describe_function(*_ffi.PROTOTYPES[name])
    theirs = abi.describe_function(abi.functions[name])
    assert ours == theirs


def prototype_comments():
    """name -> the comment above its entry in _ffi.py"""
    found, lines = {}, (PACKAGE / "_ffi.py").read_text().splitlines()
    for i, line in enumerate(lines):
        m = re.match(r"(ke_\w+) = f\(", line)
        if m:
            comment = []
            while lines[i - 1 - len(comment)].startswith("# "):
                comment.insert(0, lines[i - 1 - len(comment)][2:].strip())
            found[m.group(1)] = " ".join(comment)
    return found


def test_comments_quote_the_headers():
    text = re.sub(r"\s+", " ", headers())
    declared = {}
    for m in re.finditer(r"KE_API (?:KE_NODISCARD )?([^;{}]*?\b(ke_\w+)\s*\((?:[^()]|\([^()]*\))*\));", text):
        declared[m.group(2)] = m.group(1).strip() + ";"
    comments = prototype_comments()
    assert set(comments) == set(declared)
    for name, comment in comments.items():
        assert re.sub(r"\s+", " ", comment) == declared[name], name


# ---- structs ----


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda k: k.c_name)
def test_struct_members(abi, kind):
    """Names, offsets and types, function pointers' own arguments among them."""
    theirs = list(abi.members(kind.c_name))
    assert [name for name, _ in kind._fields_] == [name for name, _, _ in theirs]
    for (name, ours), (_, offset, theirs_type) in zip(kind._fields_, theirs):
        assert getattr(kind, name).offset == offset, name
        assert same(describe(ours), theirs_type), name


def test_layout_against_the_compiler(tmp_path):
    """The same by sizeof and offsetof, which need no debug information."""
    lines = [f"#include <{p.relative_to(INCLUDE)}>" for p in sorted(INCLUDE.rglob("*.h"))]
    lines += ["#include <stdio.h>", "int main(void) {", 'puts("{");']
    for kind in STRUCTS:
        name = f"struct {kind.c_name}"
        lines.append(f'printf("\\"{kind.c_name}\\": [%zu", sizeof({name}));')
        for member, _ in kind._fields_:
            lines.append(
                f'printf(", [%zu, %zu]", offsetof({name}, {member}), sizeof((({name} *)0)->{member}));'
            )
        lines.append(f'puts("]{"," if kind is not STRUCTS[-1] else ""}");')
    lines.append('puts("}"); return 0; }')
    source, program, generated = tmp_path / "layout.c", tmp_path / "layout", tmp_path / "kubeedge"
    source.write_text("\n".join(lines))
    generated.mkdir()
    template = (INCLUDE / "kubeedge" / "version.h.in").read_text()
    (generated / "version.h").write_text(re.sub(r"@\w+@", "0", template))
    subprocess.run(
        ["cc", "-std=c11", f"-I{INCLUDE}", f"-I{tmp_path}", "-o", program, source], check=True
    )
    compiled = json.loads(subprocess.run([program], check=True, capture_output=True, text=True).stdout)
    for kind in STRUCTS:
        size, *members = compiled[kind.c_name]
        assert ctypes.sizeof(kind) == size, kind.c_name
        ours = [[getattr(kind, n).offset, getattr(kind, n).size] for n, _ in kind._fields_]
        assert ours == members, kind.c_name


# ---- constants ----


def test_constants_are_those_of_the_headers():
    subprocess.run(
        [sys.executable, PACKAGE.parent / "tools" / "gen_const.py", "--check", INCLUDE / "kubeedge"], check=True
    )


def test_error_names_are_those_of_the_library():
    assert _const.ERROR_NAMES[_const.KE_EINVAL] == "KE_EINVAL"
    for code, name in _const.ERROR_NAMES.items():
        assert _ffi.ke_strerror(code) == name.encode()
    assert _ffi.ke_strerror(-99) == b"KE_E?"


# ---- the package itself ----


def test_types_are_checked():
    r = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.9", "--cache-dir", os.devnull, PACKAGE],
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
    )
    assert r.returncode == 0, r.stdout + r.stderr


def test_parses_as_the_oldest_python():
    for path in PACKAGE.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 9))


def test_all_names_exist():
    import kubeedge

    for name in kubeedge.__all__:
        assert hasattr(kubeedge, name), name
