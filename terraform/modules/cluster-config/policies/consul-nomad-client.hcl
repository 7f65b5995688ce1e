# Of Nomad's clients, which register themselves and the services of what runs on them.
service "nomad-client" {
  policy = "write"
}

# services of other jobs need lines as these
service_prefix "clipper-" {
  policy = "write"
}

service "fabio" {
  policy = "write"
}

# they find the servers among the nodes of this service
service "nomad" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

# the agent beside it
agent_prefix "" {
  policy = "read"
}
