#!/usr/bin/env bash
# Starts three relays as nodes, their directory, nginx in front of them, and an application of the gateway, on 127.0.0.1.
# Ctrl-C stops all of them.
#
#   RELAY   the relay program. Default: target/release/examples/relay of this checkout
#   NGINX   nginx. Default: the one in PATH, /usr/sbin or /usr/local/sbin
#   REDIS   redis-server or valkey-server. Default: one of these in PATH
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
relay=${RELAY:-$here/../../../target/release/examples/relay}
nginx=${NGINX:-$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v nginx || true)}
redis=${REDIS:-$(command -v redis-server || command -v valkey-server || true)}

fail() {
    echo "error: $1" >&2
    exit 1
}
[[ -x $relay ]] || fail "there is no $relay: cargo build --release --example relay"
[[ -n $nginx ]] || fail "there is no nginx (Debian: apt install nginx-light)"
[[ -n $redis ]] || fail "there is no redis-server (Debian: apt install redis-server)"
command -v python3 >/dev/null || fail "there is no python3, which runs the application of the gateway"

directory=$(mktemp -d)
pids=()
stop() {
    trap - EXIT
    trap '' INT TERM
    # nginx was started last: no new requests come before the nodes stop.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null || true; done
    wait
    rm -rf "$directory"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() {
    "$@" >>"$directory/out" &
    pids+=($!)
}

# Waits until a program listens on a port. Fails if a program has ended, because its port is in use for example.
wait_for() {
    local i
    for ((i = 0; i < 100; i++)); do
        (($(jobs -pr | wc -l) == ${#pids[@]})) || fail "a program has ended: see above"
        if (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi
        sleep 0.1
    done
    fail "nothing listens on port $1"
}

# The nodes have the key in common. It must be secret; a new one makes all earlier ids unknown.
(umask 077 && head -c 48 /dev/urandom | base64 -w 0 >"$directory/node.key")

# The directory of the gateway's clients and of the tunnels' hosts. It keeps nothing on disk.
start "$redis" --port 0 --unixsocket "$directory/redis.sock" --save "" --appendonly no --dir "$directory"
# The application of the gateway, which sends to its clients by any node.
start python3 "$here/../../gateway/app.py" 127.0.0.1:9095 127.0.0.1:9091
wait_for 9095

for n in 1 2 3; do
    start "$relay" --config "$here/node-$n.toml" --node-key-file "$directory/node.key" \
        --directory-url "unix:$directory/redis.sock"
done
for n in 1 2 3; do wait_for "808$n"; done
# As root, nginx would give its directories to another user.
user=()
if [[ $(id -u) == 0 ]]; then user=(-g "user $(id -un) $(id -gn);"); fi
start "$nginx" -p "$directory" -e stderr -c "$here/nginx.conf" "${user[@]}"
wait_for 8080

echo "node-1, node-2, node-3: http://127.0.0.1:8081/ http://127.0.0.1:8082/ http://127.0.0.1:8083/"
echo "admin listeners: http://127.0.0.1:9091/ http://127.0.0.1:9092/ http://127.0.0.1:9093/"
echo "listening on http://127.0.0.1:8080/"
# A node may be killed, to see what the others do.
wait "${pids[-1]}" || true
fail "nginx has ended: see above"
