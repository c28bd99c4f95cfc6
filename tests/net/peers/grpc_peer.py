# SPDX-License-Identifier: Apache-2.0
"""gRPC by grpcio: `server:PATH` echoes on a unix socket; `client:PATH` asks a server of ours."""
import sys
import threading
from concurrent import futures

import grpc

RAW = lambda b: b


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        def echo(request, context):
            if request == b"refuse":
                context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ünïx 100%\n")
            if request == b"deadline":
                return ("%d" % round(context.time_remaining())).encode()
            if request == b"hang":
                threading.Event().wait(3600)
            return request[::-1]

        if details.method != "/x.Y/Echo":
            return None
        return grpc.unary_unary_rpc_method_handler(echo, RAW, RAW)


def serve(path):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port("unix:" + path)
    server.start()
    print("READY 1", flush=True)
    threading.Event().wait()


def ask(call, message, **kw):
    try:
        return call(message, **kw).decode()
    except grpc.RpcError as e:
        return "%d %s" % (e.code().value[0], e.details())


def client(path):
    print("READY 1", flush=True)
    options = [("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", 1 << 30)]
    with grpc.insecure_channel("unix:" + path, options=options) as channel:
        echo = channel.unary_unary("/x.Y/Echo", RAW, RAW)
        other = channel.unary_unary("/x.Y/Other", RAW, RAW)
        print(ask(echo, b"hello", wait_for_ready=True))
        print(ask(echo, b""))
        print(ask(other, b"hello"))
        print(ask(echo, b"refuse"))
        print(ask(echo, b"hang", timeout=0.2))
        print(ask(echo, b"x" * 2000000))
        print(len(ask(echo, b"x" * 1000000)))
        many = [echo.future(b"%d" % i) for i in range(500)]
        print(sum(int(f.result()) for f in many))
        print(ask(echo, b"zip" * 1000, compression=grpc.Compression.Gzip)[:2])
        print(ask(echo, b"still here"))


what, path = sys.argv[1].split(":", 1)
serve(path) if what == "server" else client(path)
