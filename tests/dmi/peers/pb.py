# SPDX-License-Identifier: Apache-2.0
"""The messages of DMI in Python, made of the .proto files of lib/dmi by grpc_tools."""
import importlib
import os
import pathlib
import sys
import tempfile

from grpc_tools import protoc

SOURCE = pathlib.Path(__file__).resolve().parents[3] / "lib" / "dmi"
_folder = tempfile.TemporaryDirectory()


def load(name):
    if protoc.main(["protoc", "-I" + str(SOURCE), "--python_out=" + _folder.name, name + ".proto"]) != 0:
        sys.exit("protoc failed")
    if _folder.name not in sys.path:
        sys.path.insert(0, _folder.name)
    return importlib.import_module(name + "_pb2")


b1 = load("dmi_v1beta1")
a1 = load("dmi_v1alpha1")


def value(any_message):
    kind = any_message.type_url.rsplit(".", 1)[1]
    message = getattr(b1, kind)()
    message.ParseFromString(any_message.value)
    return message.value


def any_of(v):
    if isinstance(v, bool):
        kind = "BoolValue"
    elif isinstance(v, str):
        kind = "StringValue"
    else:
        kind, v = "FloatValue", float(v)  # as upstream: every number
    return b1.Any(type_url="type.googleapis.com/google.protobuf." + kind,
                  value=getattr(b1, kind)(value=v).SerializeToString())


def config(custom):
    return {k: value(v) for k, v in sorted(custom.data.items())}
