# In place of Ray's dashboard agent: tell the raylet that it serves no port, and end with it. See lean_ray.py.
session=$1 node=$2
for port in metrics_agent_port metrics_export_port dashboard_agent_listen_port; do
    printf %s -1 > "$session/.$port.$node" && mv "$session/.$port.$node" "$session/${port}_$node"
done
exec cat > /dev/null
