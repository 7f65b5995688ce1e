# What is not allowed is denied. While the servers are away, what was allowed last goes on.
acl {
  enabled        = true
  default_policy = "deny"
  down_policy    = "extend-cache"
}
