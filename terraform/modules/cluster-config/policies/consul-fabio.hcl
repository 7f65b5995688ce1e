# Of Fabio, which routes to what passes its checks.
service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

# it asks its agent once, at its start, for the datacenter
agent_prefix "" {
  policy = "read"
}

# itself, so that fabio.service.consul is found
service "fabio" {
  policy = "write"
}
