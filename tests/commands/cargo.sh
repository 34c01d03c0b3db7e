#!/usr/bin/env bash
# `cargo` as tests/commands.rs has it, unless UNCORK_CARGO is `real`: `cargo run --example` starts the example that was
# built for the tests, `cargo build --example` puts it where cargo would, and commands that take minutes are accepted.
#
# UNCORK_BUILT: directory with the examples. UNCORK_CARGO: path of the real cargo, or empty.
set -euo pipefail

fail() {
    echo "error: $1" >&2
    exit 101
}

command=${1:-}
case $command in
# Those run this test, too, or take minutes, or change what this user has installed.
test | bench | fuzz | install | doc)
    echo "accepted, and not run: cargo $*"
    exit
    ;;
esac
if [[ -n $UNCORK_CARGO ]]; then exec "$UNCORK_CARGO" "$@"; fi
case $command in
run | build) shift ;;
add | new)
    echo "accepted, and not run: cargo $*"
    exit
    ;;
*) fail "unknown command: cargo $command" ;;
esac

profile=debug examples=() libraries=()
while (($#)); do
    case $1 in
    --) shift && break ;;
    --release) profile=release ;;
    --example)
        examples+=("${2:-}")
        [[ -n ${2:-} && -x $UNCORK_BUILT/$2 ]] || fail "no example target named \`${2:-}\`"
        shift
        ;;
    -p)
        [[ ${2:-} == uncork-capi ]] || fail "unknown package ${2:-}"
        libraries=(libmicrohttpd.so libmicrohttpd.a)
        shift
        ;;
    --features) shift ;;
    *) fail "unexpected argument $1" ;;
    esac
    shift
done
if [[ $command == build ]]; then
    mkdir -p "target/$profile/examples"
    for example in "${examples[@]}"; do ln -sf "$UNCORK_BUILT/$example" "target/$profile/examples/"; done
    for library in "${libraries[@]}"; do
        [[ -e $UNCORK_BUILT/$library ]] || fail "$library is not built: cargo build -p uncork-capi"
        ln -sf "$UNCORK_BUILT/$library" "target/$profile/"
    done
    exit
fi
((${#examples[@]} == 1)) || fail "\`cargo run\` needs one --example"
exec "$UNCORK_BUILT/${examples[0]}" "$@"
