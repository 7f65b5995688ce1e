# On a machine that is no cloud's, a client waits for each cloud's metadata service when it starts.
client {
  options = {
    "fingerprint.denylist" = "env_aws,env_azure,env_digitalocean,env_gce"
  }
}
