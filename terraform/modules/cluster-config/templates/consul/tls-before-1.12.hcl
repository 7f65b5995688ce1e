# Agents show each other certificates; callers of the HTTPS API need none, they have tokens.
ca_file                = ${ca_file}
cert_file              = ${cert_file}
key_file               = ${key_file}
verify_incoming_rpc    = true
verify_outgoing        = true
verify_server_hostname = true
