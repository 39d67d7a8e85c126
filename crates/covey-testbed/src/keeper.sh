# Ends the services in the folder $1, and removes it, once none of those who use them runs any more.
# `users/PID` holds when that user began; `processes` has a line for each service: SIGNAL PID BEGAN.
cd "$1" || exit 0

# Whether the process $1 runs that began at $2 (proc_pid_stat(5): from the last bracket on, fields 3 and 22).
runs() {
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    began=$2
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" != Z ] && [ "${20}" = "$began" ]
}

is_used() {
    for user in users/*; do
        { read -r began <"$user"; } 2>/dev/null && runs "${user#users/}" "$began" && return 0
    done
    return 1
}

while sleep 1; do
    # Somebody ended all of it, or wants to keep it until told otherwise.
    { [ -e services.json ] && ! [ -e kept ]; } || exit 0
    is_used && continue
    # Whoever comes now waits for the lock, finds nothing, and begins anew.
    exec 9<services.lock && flock 9 || exit 0
    { is_used || [ -e kept ]; } || break
    exec 9<&-
done

while read -r signal pid began; do
    runs "$pid" "$began" && kill -s "$signal" "$pid"
done <processes
while read -r signal pid began; do
    tries=0
    while runs "$pid" "$began"; do
        tries=$((tries + 1))
        [ "$tries" -eq 100 ] && kill -s KILL "$pid"
        sleep 0.1
    done
done <processes
# Out of the way first: whoever comes while it is removed begins in a new folder of the old name.
cd / && mv "$1" "$1.ended-$$" && rm -rf "$1.ended-$$"
