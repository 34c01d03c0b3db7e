#!/usr/bin/env python3
"""Compares a GiB that nodes forward with the same on one node, by processor time.

usage: compare_nodes.py [--rounds N] [--gib G] [--tls] RELAY

RELAY is the relay program, built with the profile `dist`. Three nodes are started, with one loop each, on processor 0.
Sender and receiver run on processor 1. The cases take turns in each round:

  local      sender, receiver and stream are on node A
  usual      sender on A, receiver on B, the stream on A: one side is forwarded
  apart      sender on A, receiver on B, the stream on C: both sides are forwarded, by different nodes
  both       sender and receiver on A, the stream on B: both sides are forwarded, by one node

The processor time is that of all three processes together, in user and system mode. The table has medians, and ratios
to `local` in the same round. A ratio repeats on a busy machine; seconds do not. Every received byte is counted, and the
pattern is checked. With --tls, the nodes connect to each other by TLS (needs openssl); clients do not.
"""
import argparse, http.client, json, os, pathlib, socket, statistics, subprocess, sys, tempfile, threading, time

BLOCK = bytes(range(256)) * 1024
CASES = {"local": ("a", "a", "a"), "usual": ("a", "b", "a"), "apart": ("a", "b", "c"), "both": ("a", "a", "b")}


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def make_certificates(folder):
    """Makes an authority and a certificate for all nodes."""
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=nodes", "-days", "2")
    openssl("req", *key, "-keyout", "key.pem", "-out", "node.csr", "-subj", "/CN=node")
    (folder / "names").write_text("subjectAltName = IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-out", "cert.pem", "-days", "2", "-extfile", "names")
    return [f"--node-tls-cert={folder}/cert.pem", f"--node-tls-key={folder}/key.pem", f"--node-tls-ca={folder}/ca.pem"]


class Node:
    def __init__(self, program, name, port, args):
        command = ["taskset", "-c", "0", program, "--threads=1", "--listen=127.0.0.1:0", "--admin=off",
                   "--log-level=warn", f"--node-id={name}", f"--node-listen=127.0.0.1:{port}", *args]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on http://"):
            sys.exit(f"node {name} does not start: {line!r}")
        self.port = int(line.rsplit(":", 1)[1])

    def processor_seconds(self):
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stream(self):
        client = http.client.HTTPConnection("127.0.0.1", self.port)
        client.request("POST", "/stream")
        return "/stream/" + json.loads(client.getresponse().read())["stream"]


def read_head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            sys.exit(f"receiver: closed before the head: {data!r}")
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    if b" 200 " not in head.split(b"\r\n", 1)[0] or b"chunked" in head.lower():
        sys.exit(f"receiver: {head!r}")
    return len(body)


def transfer(source, receiver, path, total):
    """Sends `total` bytes. Returns the time until the receiver has all."""
    def send():
        for _ in range(total // len(BLOCK)):
            sending.sendall(BLOCK)

    start = time.monotonic()
    receiving = socket.create_connection(("127.0.0.1", receiver.port))
    sending = socket.create_connection(("127.0.0.1", source.port))
    receiving.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    sending.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {total}\r\n\r\n".encode())
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    got, buffer = read_head(receiving), bytearray(1 << 20)
    while got < total:
        n = receiving.recv_into(buffer)
        if n == 0 or buffer[0] != got % 256:
            sys.exit(f"receiver: wrong after {got} of {total} bytes")
        got += n
    thread.join()
    if b" 200 " not in sending.recv(65536).split(b"\r\n", 1)[0]:
        sys.exit("source: not 200")
    wall = time.monotonic() - start
    sending.close(), receiving.close()
    return wall


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("relay")
    args = parser.parse_args()
    total = max(1, int(args.gib * 2**30) // len(BLOCK)) * len(BLOCK)
    gib = total / 2**30
    os.sched_setaffinity(0, {1})
    results = {case: ([], []) for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "key").write_bytes(os.urandom(32).hex().encode())
        ports, names = free_ports(3), "abc"
        scheme = "https" if args.tls else "http"
        flags = [f"--node-key-file={folder}/key", *(make_certificates(folder) if args.tls else [])]
        flags += [f"--node={name} {scheme}://127.0.0.1:{port}" for name, port in zip(names, ports)]
        nodes = {}
        try:
            for name, port in zip(names, ports):
                nodes[name] = Node(args.relay, name, port, flags)
            used = lambda: sum(node.processor_seconds() for node in nodes.values())
            for _ in range(args.rounds):
                for case, (source, receiver, owner) in CASES.items():
                    path = nodes[owner].stream()
                    before = used()
                    wall = transfer(nodes[source], nodes[receiver], path, total)
                    results[case][0].append((used() - before) / gib), results[case][1].append(wall / gib)
        finally:
            for node in nodes.values():
                node.process.terminate()
                node.process.wait()
    print(f"{'case':<8}{'cpu-s/GiB':>10}{'ratio':>7}{'lowest':>8}{'highest':>8}{'s/GiB':>8}{'ratio':>7}")
    for case, (cpu, wall) in results.items():
        ratios = [a / b for a, b in zip(cpu, results["local"][0])]
        walls = [a / b for a, b in zip(wall, results["local"][1])]
        median = statistics.median
        print(f"{case:<8}{median(cpu):>10.3f}{median(ratios):>7.2f}{min(ratios):>8.2f}{max(ratios):>8.2f}"
              f"{median(wall):>8.3f}{median(walls):>7.2f}")


if __name__ == "__main__":
    main()
