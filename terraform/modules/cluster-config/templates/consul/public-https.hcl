# Plain HTTP stays on loopback, for what runs on this machine.
addresses {
  https = "0.0.0.0"
}

ports {
  https = ${https_port}
}
