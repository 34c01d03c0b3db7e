"""A chat room, as an application of the gateway. Usage: python3 app.py [ADDRESS:PORT GATEWAY:PORT]"""
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ADDRESS, GATEWAY = sys.argv[1:] or ["127.0.0.1:12346", "127.0.0.1:9180"]
room = set()  # the keys of all clients; a client's key is its name

def say(text):
    if not room:
        return  # the gateway rejects a message without a key
    gateway = HTTPConnection(GATEWAY, timeout=20)
    gateway.putrequest("POST", "/send")
    for key in list(room):
        gateway.putheader("X-Kuiperbelt-Session", key)
    gateway.putheader("Content-Length", len(text.encode()))
    gateway.endheaders(text.encode())
    print(text, gateway.getresponse().read().decode().strip(), flush=True)

class Callback(BaseHTTPRequestHandler):
    def do_GET(self):  # connect: the client's own request, with /connect?name=ann
        name = parse_qs(urlsplit(self.path).query).get("name", [""])[0]
        if name in room or not (name.isascii() and name.isalnum()):
            return self.respond(403, "choose another name")
        self.respond(200, f"welcome, {name}", name)

    def do_POST(self):  # establish, receive, close
        key, body = self.headers["X-Kuiperbelt-Session"], self.rfile.read(int(self.headers["Content-Length"]))
        room.discard(key) if self.path == "/close" else room.add(key)  # in a receive: after a restart of this program
        text = body.decode(errors="replace")
        say(key + {"/establish": " is here", "/receive": f": {text}", "/close": " says goodbye"}[self.path])
        self.respond(200)

    def respond(self, status, text="", key=None):
        self.send_response(status)
        self.send_header("Content-Length", len(text))
        if key:
            self.send_header("X-Kuiperbelt-Session", key)
        self.end_headers()
        self.wfile.write(text.encode())

server = ThreadingHTTPServer((ADDRESS.split(":")[0], int(ADDRESS.split(":")[1])), Callback)
print(f"listening on http://{ADDRESS}", flush=True)
server.serve_forever()
