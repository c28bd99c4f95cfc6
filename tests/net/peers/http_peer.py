#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An HTTP server with the ways to end a body that exist. Prints READY <port>."""
import http.server
import sys

BIG = b"x" * 70000


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def fixed(self, status, body, send=True):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)

    def do_HEAD(self):
        self.fixed(200, b"hello", send=False)

    def do_GET(self):
        if self.path == "/fixed":
            self.fixed(200, b"hello")
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(BIG), 999):
                part = BIG[at:at + 999]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/close":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(BIG)
            self.close_connection = True
        elif self.path == "/empty":
            self.send_response(204)
            self.end_headers()
        elif self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/fixed")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.fixed(404, b"not found")

    def do_POST(self):
        if self.path == "/continue":
            self.send_response_only(100)
            self.end_headers()
        self.fixed(200, self.rfile.read(int(self.headers["Content-Length"])))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("READY", server.server_address[1], flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(0)
