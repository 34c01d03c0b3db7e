#!/usr/bin/env python3
"""Compares HTTP/2 with HTTP/1.1 on the same server, and with other servers, by processor time.

usage: compare_http2.py [--rounds N] [--requests N] [--idle N] HELLO [NAME=COMMAND ...]

HELLO is the example `hello`, built with the profile `dist`. A COMMAND starts another server of HTTP/2 without TLS; {port}
in it is replaced by a port. For hyper: `cargo build --release --manifest-path benches/peers/hyper_http2/Cargo.toml`, then
`hyper="benches/peers/hyper_http2/target/release/hyper_http2 {port}"`. All servers have one thread, on processor 0. h2load (Debian's nghttp2-client) runs on
processor 1, with 64 connections. The cases take turns in each round:

  http1      one request at a time over HTTP/1.1 (HELLO only)
  one        one request at a time over HTTP/2
  sixteen    16 requests at a time over HTTP/2

The table has the processor time of a request in microseconds, and its ratio to HELLO's http1 in the same round: the
median, the lowest and the highest. A ratio repeats on a busy machine; microseconds do not. With --idle, it also has the
resident bytes of an idle connection that has had one request.
"""
import argparse, os, pathlib, shlex, socket, statistics, struct, subprocess, sys, time

CASES = {"http1": ["--h1"], "one": ["-m1"], "sixteen": ["-m16"]}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Server:
    def __init__(self, name, command):
        self.name, self.port = name, free_port()
        words = [word.format(port=self.port) for word in shlex.split(command)]
        self.process = subprocess.Popen(["taskset", "-c", "0", *words], stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit(f"{name} does not start")

    def processor_seconds(self):
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        lines = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def microseconds(self, case, requests):
        """Returns the processor time of a request."""
        command = ["taskset", "-c", "1", "h2load", f"-n{requests}", "-c64", *CASES[case], f"http://127.0.0.1:{self.port}/"]
        before = self.processor_seconds()
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if f" {requests} succeeded" not in output:
            sys.exit(f"{self.name}, {case}: not every request succeeded:\n{output}")
        return 1e6 * (self.processor_seconds() - before) / requests


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def connections(port, count):
    """Opens connections, each with one request that has its response."""
    fields = bytes([0x82, 0x84, 0x86, 0x41, 9]) + b"localhost"
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(4, 1, 0, b"") + frame(1, 5, 1, fields)
    opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    for connection in opened:
        connection.sendall(hello)
    for connection in opened:
        received = b""
        while b"Hello, world!" not in received:
            piece = connection.recv(4096)
            if not piece:
                sys.exit("the connection ended before the response")
            received += piece
    return opened


def idle_bytes(server, count):
    kept = connections(server.port, 200)
    time.sleep(0.5)
    before = server.resident_bytes()
    for _ in range(count // 100):
        kept += connections(server.port, 100)
    time.sleep(0.5)
    return (server.resident_bytes() - before) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="idle connections, at most 15000")
    parser.add_argument("hello")
    parser.add_argument("others", nargs="*", metavar="NAME=COMMAND")
    options = parser.parse_args()
    servers = [Server("uncork", f"{shlex.quote(options.hello)} 127.0.0.1:{{port}}")]
    servers += [Server(*other.split("=", 1)) for other in options.others]
    try:
        times = {}
        for _ in range(options.rounds):
            floor = servers[0].microseconds("http1", options.requests)
            times.setdefault(("uncork", "http1"), []).append((floor, 1))
            for case in ("one", "sixteen"):
                for server in servers:
                    taken = server.microseconds(case, options.requests)
                    times.setdefault((server.name, case), []).append((taken, taken / floor))
        for (name, case), values in sorted(times.items(), key=lambda item: (item[0][1], item[0][0])):
            ratios = [ratio for _, ratio in values]
            median = statistics.median
            print(f"{case:8} {name:10} {median(taken for taken, _ in values):6.2f} us   {median(ratios):.2f} "
                  f"({min(ratios):.2f} to {max(ratios):.2f})")
        for server in servers if options.idle else []:
            print(f"idle     {server.name:10} {idle_bytes(server, options.idle):6.0f} bytes")
    finally:
        for server in servers:
            server.process.kill()


main()
