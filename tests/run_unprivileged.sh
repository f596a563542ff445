#!/bin/sh
# Runs the tests of stopping as a user who is not root: first with the cgroups that such a user
# has, then with all cgroups hidden.  Called by root it gives up root's rights, else it is called
# by such a user.  Arguments go to pytest; TESTS names other tests, PYTHON another interpreter.
#
#     tests/run_unprivileged.sh -m "not soak"
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
tests=${TESTS:-tests/flows/test_stops.py tests/backends/test_keeper_kill.py}
nobody=65534

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
as=""
if [ "$(id -u)" = 0 ]; then
    chown "$nobody:$nobody" "$home"
    as="setpriv --reuid $nobody --regid $nobody --clear-groups"
fi

alone() {
    $as env HOME="$home" TMPDIR="$home" XDG_STATE_HOME="$home/state" PYTHONDONTWRITEBYTECODE=1 "$@"
}

if ! alone "$python" -c 'import pytest, tasks'; then
    echo "user $nobody cannot run \"$python\" or read this folder; PYTHON names one" \
        "that everybody may run, with what the tests need installed" >&2
    exit 2
fi

status=0
for hidden in "" 1; do
    echo "== as user $(alone id -u)${hidden:+, cgroups hidden}"
    # Empty means: not hidden.
    alone HOLDFAST_NO_CGROUP="$hidden" "$python" -m pytest -q -p no:cacheprovider "$@" $tests ||
        status=1
done
exit $status
