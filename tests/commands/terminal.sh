# A terminal: runs the files 1.sh, 2.sh, … of its directory one after the other, as if each was pasted, and makes
# 1.done, 2.done, … behind them. Failed commands go to `failed`, a line for each: status, line of the file, command.
# `now` has the line and the command that was started last.
uncork_terminal=$1

# $1: status, $2: line, $3: command
uncork_failed() { printf '%s %s %s\n' "$1" "$2" "${3//$'\n'/ }" >>"$uncork_terminal/failed"; }

# $1: line, $2: command, $3: the file that has it
uncork_starts() {
    if [[ $3 == "$uncork_terminal/$uncork_step.sh" ]]; then printf '%s %s\n' "$1" "$2" >"$uncork_terminal/now"; fi
}
set -ET
trap 'uncork_starts "$LINENO" "$BASH_COMMAND" "${BASH_SOURCE[0]}"' DEBUG
trap 'uncork_failed "$?" "$LINENO" "$BASH_COMMAND"' ERR
# Ctrl-C ends the command, and the terminal stays.
trap : INT

for ((uncork_step = 1; ; uncork_step++)); do
    until [ -e "$uncork_terminal/$uncork_step.sh" ]; do sleep 0.05; done
    source "$uncork_terminal/$uncork_step.sh"
    # What has failed in the background meanwhile.
    while read -r uncork_job; do
        case $uncork_job in
        *Exit\ [0-9]* | *Killed* | *Aborted* | *Segmentation*) uncork_failed background 0 "$uncork_job" ;;
        esac
    done < <(jobs)
    : >"$uncork_terminal/$uncork_step.done"
done
