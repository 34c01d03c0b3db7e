# Opens the terminals of one page and sends signals to them. It reads a line for each step, such as `open 2` or
# `interrupt 2`. When its input ends, also because the test has died, it ends all of them.
#
# Arguments: the directory for terminals; `net` if the network is a new one, whose loopback is still down.
set -m # each terminal is a process group of its own
here=$(dirname "$0") desk=$1
if [ "$2" = net ]; then ip link set lo up || exit 1; fi

# The standard input of the terminals: a pipe that is open and empty.
mkfifo "$desk/keyboard" && exec 7<>"$desk/keyboard" || exit 1
echo up

groups=()
while read -r step number; do
    case $step in
    open)
        bash "$here/terminal.sh" "$desk/$number" <&7 7>&- >>"$desk/$number/out" 2>&1 &
        groups[number]=$!
        ;;
    interrupt) kill -INT -- "-${groups[number]}" ;;
    esac
done
for group in "${groups[@]}"; do kill -KILL -- "-$group"; done 2>/dev/null
