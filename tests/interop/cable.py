# SPDX-License-Identifier: Apache-2.0
"""The cable between a node and a cloud on loopback, which can be cut: has the ports that a Node wants."""
import random
import socket
import struct
import threading


class Cable:
    def __init__(self, cloud):
        self._lock, self._live, self._open, self._pulled = threading.Lock(), [], True, False
        self._listeners = []
        self.tunnel, self.cert = self._listen(cloud.tunnel), self._listen(cloud.cert)

    def _listen(self, target):
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()
        return listener.getsockname()[1]

    def _accept(self, listener, target):
        while self._open:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if self._pulled:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", target))
            except OSError:
                near.close()
                continue
            with self._lock:
                pulled = self._pulled  # while it was dialled
                if not pulled:
                    self._live.append((near, far))
            if pulled:
                near.close()
                far.close()
                continue
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    @staticmethod
    def _pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self, rng=random):
        """Ends all connections, each by a reset or by an end that TLS did not announce."""
        with self._lock:
            live, self._live = self._live, []
        for pair in live:
            reset = rng.random() < 0.5
            for s in pair:
                try:
                    if reset:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    s.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()

    def pull(self):
        """Out, until it is plugged in again."""
        with self._lock:
            self._pulled = True
        self.cut()

    def plug(self):
        self._pulled = False

    def close(self):
        self._open = False
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut()
