retry_join = ${retry_join}
