# Of who runs the cluster "${cluster}" with clipper-nomad. What each right is for: docs/cluster.md, "ACLs and TLS".
namespace "${namespace}" {
  capabilities = ["list-jobs", "read-job", "submit-job", "read-fs"]

  variables {
    path "nomad/jobs/clipper-${cluster}-*" {
      capabilities = ["read", "write", "destroy"]
    }
  }
}

# how much room the clients have
node {
  policy = "read"
}

# those that are given to up and deploy; one that is called otherwise needs a block of its own
host_volume "clipper-*" {
  capabilities = ["mount-readwrite"]
}
