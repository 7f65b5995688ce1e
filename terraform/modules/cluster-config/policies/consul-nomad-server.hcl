# Of Nomad's servers.
service "nomad" {
  policy = "write"
}

# servers find each other among the nodes of that service
node_prefix "" {
  policy = "read"
}

# the agent beside it
agent_prefix "" {
  policy = "read"
}
