# From here on every job is the same.
set -uo pipefail
say() { printf '%s sweeper: %s\n' "$(date +%T)" "$*" >&2; }
cd -- "$folder" || exit 2
for program in sweeper ray; do
  command -v "$program" >/dev/null || { say "no \`$program\` on the PATH of $SLURMD_NODENAME"; exit 2; }
done

# Sockets and logs of Ray need a short path, in a folder of this user alone: Ray opens its own to everybody. Data and
# scratch go to the node's own disk, never to the shared one.
export node_disk=${SLURM_TMPDIR:-${TMPDIR:-/tmp}} own_cache=${TRAINERS_CACHE_DIR:-}
on_this_node() {
  umask 077
  ray_folder=/tmp/sweeper-$SLURM_JOB_ID-${SLURMD_NODENAME:0:12}
  local_folder=$node_disk/sweeper-data-$SLURM_JOB_ID-$SLURMD_NODENAME
  rm -rf -- "$ray_folder" "$local_folder" # of this job, killed and started again
  mkdir -p -- "$node_disk" && mkdir -- "$ray_folder" "$local_folder" || return 2 # what is there is somebody else's
  export TMPDIR=$local_folder TRAINERS_CACHE_DIR=${own_cache:-$local_folder/cache}
}
forget_this_node() { rm -rf -- "$ray_folder" "$local_folder"; }

# One node's Ray, for as long as this runs. `ray stop` would end every Ray of this user, other jobs' too. All ports are
# of the job's own block, but those of workers, who take what the kernel has free.
ray_node() {
  local ports=("--node-manager-port=$((port + 1))" "--object-manager-port=$((port + 2))"
    "--runtime-env-agent-port=$((port + 3))" "--metrics-export-port=$((port + 4))"
    "--dashboard-agent-listen-port=$((port + 5))" "--dashboard-agent-grpc-port=$((port + 6))"
    --min-worker-port=0 --max-worker-port=0)
  export AUTOSCALER_METRIC_PORT=$((port + 8)) DASHBOARD_METRIC_PORT=$((port + 9))
  local cpus=$SLURM_CPUS_PER_TASK
  # A trial is no task of Slurm: Lightning would take the job's tasks for its own ranks, and requeue the job itself.
  unset -v "${!SLURM_@}" "${!SLURMD_@}"
  exec ray start --block --temp-dir="$ray_folder/r" --num-cpus="$cpus" --num-gpus="$gpus" \
    --object-store-memory=100000000 --disable-usage-stats "${ports[@]}" "$@" >"$ray_folder/start.log" 2>&1 </dev/null
}
# Ray gives a node 30 s to come up, which is short where Python is read from a shared disk: six attempts.
other_node() {
  on_this_node || return 2
  local attempt ray
  # All processes of the step are told to end, Ray's too; what has not by then, Slurm ends with this function.
  trap 'kill -TERM "$ray"; sleep 2; forget_this_node; exit' TERM USR1
  for attempt in 1 2 3 4 5 6; do
    (ray_node --address="$address") &
    ray=$!
    until ! kill -0 "$ray" 2>/dev/null; do wait "$ray"; done
    printf 'Ray ended on %s (%s):\n%s\n' "$SLURMD_NODENAME" "$attempt" "$(tail -n 5 "$ray_folder/start.log")" >&2
  done
  forget_this_node
}
start_head() {
  local attempt
  for attempt in 1 2 3 4 5 6; do
    (ray_node --head --node-ip-address="$1" --port="$port" --ray-client-server-port="$((port + 7))" \
      --include-dashboard=false --include-log-monitor=false) &
    head=$!
    while kill -0 "$head" 2>/dev/null; do
      [ ! -s "$ray_folder/r/ray_current_cluster" ] || return 0 # it is written last
      sleep 0.5
    done
  done
  say "Ray did not start: $(tail -n 5 "$ray_folder/start.log")"
  return 2
}
start_cluster() {
  local ip=127.0.0.1 more=$((SLURM_JOB_NUM_NODES - 1))
  if ((more)); then # where the other nodes reach this one
    ip=$(scontrol show node "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
    ip=$(getent ahostsv4 "$ip" | awk '{ print $1; exit }')
    case $ip in '' | 127.*) ip=$(hostname -I | awk '{ print $1 }') ;; esac
  else
    export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 # Ray's name for: listen on loopback only
  fi
  # Ten ports by the job's ID, below those that the kernel gives away, so that two jobs on a node do not meet.
  port=$((20000 + SLURM_JOB_ID % 1200 * 10))
  while (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do port=$((port + 10)); done
  address=$ip:$port
  RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
  export RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0 address port gpus
  start_head "$ip" || return
  ((more)) || return 0
  export -f on_this_node forget_this_node ray_node other_node
  srun --overlap --nodes="$more" --ntasks="$more" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    --exclude="$SLURMD_NODENAME" --kill-on-bad-exit=0 bash -c other_node &
  others=$!
}
stop_cluster() { # 10 s for each to end by itself
  local each
  [ -z "$others" ] || kill -USR1 "$others" # srun passes it on, of a SIGTERM it makes a SIGKILL
  kill -TERM "$head"
  for each in $others $head; do
    for ((tenths = 0; tenths < 100; tenths++)); do kill -0 "$each" 2>/dev/null && sleep 0.1; done
    kill -KILL "$each" 2>/dev/null
  done
}

evaluations() {
  local found
  found=$(sweeper status "$study" --home "$home" --json 2>/dev/null | sed -n 's/.*"evaluations": \([0-9]*\).*/\1/p')
  echo "${found:-0}"
}

near_time_limit() {
  local limit_s
  limit_s=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%l |
    awk '{ n = split($0, t, /[-:]/); print t[n] + 60 * t[n - 1] + 3600 * t[n - 2] + 86400 * t[n - 3] }')
  ((limit_s && SECONDS > limit_s - signal_s - 90)) # Slurm may send its signal a minute early
}

# Before the time limit (or a preemption that sends the signal of --signal): running trials continue to their next
# checkpoint. Those that do not get there in two thirds of the time left are stopped where they are.
driver='' head='' others='' watchdog='' time_is_up=''
trap '[ -n "$time_is_up" ] || { time_is_up=yes; [ -z "$driver" ] || end_driver; }' USR1
trap 'kill -TERM ${driver:-$head} 2>/dev/null; [ -n "$driver" ] || exit 143' TERM INT
end_driver() {
  say "the time is nearly up: trials continue to their next checkpoint"
  kill -TERM "$driver" 2>/dev/null
  (
    trap 'kill "$!"; exit' TERM
    sleep "$((signal_s * 2 / 3))" & wait
    kill -TERM "$driver"
    sleep "$((signal_s / 6))" & wait
    kill -KILL "$driver"
  ) 2>/dev/null &
  watchdog=$!
}

on_this_node || exit 2
trap forget_this_node EXIT
before=$(evaluations)
start_cluster || exit 2
run+=(--address "$address")
say "job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST: ${run[*]}"
"${run[@]}" &
driver=$!
[ -z "$time_is_up" ] || end_driver
until ! kill -0 "$driver" 2>/dev/null; do wait "$driver"; done # a signal ends a wait early
wait "$driver"
code=$?
driver=''
[ -z "$watchdog" ] || { kill "$watchdog"; wait "$watchdog"; } 2>/dev/null
stop_cluster
# Codes up to 128 are an end: done, or a failure that a next start would repeat.
if [ -n "$time_is_up" ] && ((code > 128)); then
  if near_time_limit && [ "$(evaluations)" = "$before" ]; then
    say "not requeued: no evaluation was reached in the time of this job, so the next would get no further"
  else
    say "requeued: the study continues when the job starts again"
    forget_this_node # now: Slurm ends this script as soon as it hears of it
    scontrol requeue "$SLURM_JOB_ID" || say "Slurm does not requeue it; submit the script again, and the study continues"
  fi
fi
exit "$code"
