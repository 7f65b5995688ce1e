# From which ports tasks get theirs.
client {
  min_dynamic_port = ${first}
  max_dynamic_port = ${last}
}
