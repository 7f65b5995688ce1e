# What cluster-config takes, which also checks it. README.md of ../cluster-config says more.

variable "name" {
  description = "Name of the cluster of machines: a DNS label of at most 32 characters. Machines are called `<name>-server-0` and so on."
  type        = string
  nullable    = false
}

variable "datacenter" {
  description = "Datacenter of Consul and Nomad."
  type        = string
  default     = "dc1"
  nullable    = false
}

variable "region" {
  description = "Region of Nomad."
  type        = string
  default     = "global"
  nullable    = false
}

variable "servers" {
  description = "Number of servers, each with Consul's and Nomad's: 1, 3 or 5. With 3 the cluster outlives the loss of one, with 5 of two."
  type        = number
  default     = 3
  nullable    = false
}

variable "clients" {
  description = "Number of clients, on which jobs run."
  type        = number
  nullable    = false
}

variable "load_balancers" {
  description = "Number of machines with Fabio."
  type        = number
  default     = 1
  nullable    = false
}

variable "releases" {
  description = "Version of each program, and the SHA-256 of its release for each architecture of the machines (`amd64`, `arm64`). `clipper-nomad terraform init` writes them."
  type = object({
    consul = object({ version = string, sha256 = map(string) })
    nomad  = object({ version = string, sha256 = map(string) })
    fabio  = object({ version = string, sha256 = map(string) })
  })
  nullable = false
}

variable "release_mirror" {
  description = "Where machines download releases instead of from their publishers: `<mirror>/consul/<version>/consul_<version>_linux_<arch>.zip`, `<mirror>/nomad/…` likewise, `<mirror>/fabio/v<version>/fabio-<version>-linux_<arch>`."
  type        = string
  default     = ""
  nullable    = false
}

variable "allowed_cidrs" {
  description = "Who reaches Nomad's and Consul's API, and SSH. Everybody (0.0.0.0/0, ::/0) is refused."
  type        = list(string)
  nullable    = false
}

variable "query_cidrs" {
  description = "Who may send queries to Fabio: it may be everybody. Applications have no passwords."
  type        = list(string)
  nullable    = false
}

variable "tls_enabled" {
  description = "Whether Consul and Nomad speak TLS, with a certificate from each agent. Without it tokens can be read by whoever is on the way."
  type        = bool
  default     = true
  nullable    = false
}

variable "acl_enabled" {
  description = "Whether Consul and Nomad want tokens. Without it whoever reaches them may do anything, on each client as root."
  type        = bool
  default     = true
  nullable    = false
}

variable "docker_registries" {
  description = "Registries that Docker on the clients may speak to without TLS or with a certificate of nobody's (`insecure`). Others need not be named."
  type        = list(object({ host = string, insecure = optional(bool, false) }))
  default     = []
  nullable    = false
}

variable "docker_bridge" {
  description = "Address of Docker's own bridge on each client, with its prefix. Containers ask for names there."
  type        = string
  default     = "172.17.0.1/16"
  nullable    = false
}

variable "host_volumes" {
  description = "Folders of each client that jobs may mount, by name. They are made for user `owner`: 10001 is that of the parts of Clipper. The toolkit's ACL policy allows those whose name begins with `clipper-`."
  type        = list(object({ name = string, path = string, owner = optional(number, 10001), read_only = optional(bool, false) }))
  default     = []
  nullable    = false
}

variable "node_pools" {
  description = "Number of clients in each of Nomad's node pools, which together are all `clients`. Without it all are in `default`."
  type        = map(number)
  default     = {}
  nullable    = false
}

# What is Hetzner's.

variable "network_cidr" {
  description = "Addresses of the private network that is made; a /24 or larger."
  type        = string
  default     = "10.65.0.0/24"
  nullable    = false
}

variable "location" {
  description = "Where the machines are: nbg1, fsn1, hel1, ash, hil or sin."
  type        = string
  default     = "nbg1"
  nullable    = false
}

variable "network_zone" {
  description = "Network zone of `location`: eu-central, us-east, us-west or ap-southeast."
  type        = string
  default     = "eu-central"
  nullable    = false
}

variable "image" {
  description = "Image of the machines, with systemd and cloud-init."
  type        = string
  default     = "debian-12"
  nullable    = false
}

variable "server_types" {
  description = "Type of machine of each role."
  type        = object({ server = optional(string, "cx23"), client = optional(string, "ccx23"), load_balancer = optional(string, "cx23") })
  default     = {}
  nullable    = false
}

variable "ssh_keys" {
  description = "Names or numbers of SSH keys of the project. Whoever runs `terraform apply` needs one of them: secrets are handed out over SSH."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.ssh_keys) > 0
    error_message = "ssh_keys is empty; name one at least, since secrets are handed out over SSH."
  }
}

variable "balancer_type" {
  description = "Type of a load balancer of Hetzner's before Fabio (as lb11). They have no firewall, so `query_cidrs` must let everybody in. Without one queries go to the first machine that runs Fabio."
  type        = string
  default     = null
}

variable "operator_dir" {
  description = "Folder for the operator's certificate and tokens, made on the machine that Terraform runs on; `clipper-NAME` where it runs without it."
  type        = string
  default     = null
}

variable "labels" {
  description = "Labels of everything that is made."
  type        = map(string)
  default     = {}
  nullable    = false
}
