#!/bin/sh
# What a container of the image does:
#   entry head         the head of a Ray cluster, without CPUs: nothing trains there
#   entry worker       a node of it; RAY_HEAD is its HOST:PORT
#   entry driver ARGS  `sweeper ARGS`; with --address on a node of its own without CPUs: a Ray driver has to be on one
#   entry job ARGS     `sweeper ARGS` on a head that runs, for a RayJob: a result of the study is no failure of the job
#   entry health       whether this container's Ray node listens
#   entry COMMAND ...  that command
set -eu
umask 077
NODE_PORT=6380 # of the raylet; fixed, so that `health` knows it

# A container on several networks has as many addresses; the cluster must be told the one that it reaches.
own_address() {
    python -c '
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as probe:
    probe.connect((sys.argv[1].rpartition(":")[0], 9))
    print(probe.getsockname()[0])' "$RAY_HEAD"
}

# Messages between driver and workers are small, so the object store is: it has to fit in the container's /dev/shm.
node() {
    exec ray start "$@" --node-ip-address "$(own_address)" --node-manager-port "$NODE_PORT" \
        --object-store-memory 268435456 --disable-usage-stats
}

case "${1:-}" in
head)
    node --head --port "${RAY_HEAD##*:}" --num-cpus 0 --num-gpus 0 --include-dashboard false --block
    ;;
worker)
    node --address "$RAY_HEAD" ${WORKER_CPUS:+--num-cpus "$WORKER_CPUS"} --block
    ;;
driver)
    shift
    case " $* " in
    *" --address"*)
        ( # tasks of other nodes may run in this node's processes: they need no password
            unset PGPASSWORD MLFLOW_TRACKING_PASSWORD
            node --address "$RAY_HEAD" --num-cpus 0 --num-gpus 0 >&2
        )
        ;;
    esac
    exec sweeper "$@"
    ;;
job)
    shift
    code=0
    sweeper "$@" || code=$?
    case "$code" in
    [1-5]) # a failed trial, bad input, no skill, refused records: a retry on another cluster would end the same
        echo "entry job: sweeper ended with exit code $code; the job is over and is not retried" >&2
        exit 0
        ;;
    esac
    exit "$code"
    ;;
health)
    python -c '
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()' "$(own_address)" "$NODE_PORT"
    ;;
"")
    echo "error: name a role or a command: head, worker, driver ARGS, job ARGS, health, COMMAND" >&2
    exit 2
    ;;
*)
    exec "$@"
    ;;
esac
