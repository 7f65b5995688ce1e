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

# What is AWS's.

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made, with a public subnet in each of up to three availability zones."
  type        = string
  default     = "10.65.0.0/16"
  nullable    = false
}

variable "subnet_ids" {
  description = "Subnets of one VPC to use instead of making one. The machines must reach the internet from there."
  type        = list(string)
  default     = null
}

variable "public" {
  description = "Whether the machines and the load balancer have public addresses. Who gets in is decided by `allowed_cidrs` and `query_cidrs` either way."
  type        = bool
  default     = true
  nullable    = false
}

variable "architecture" {
  description = "Of the machines' image: `amd64`, or `arm64` for Graviton."
  type        = string
  default     = "amd64"
  nullable    = false

  validation {
    condition     = contains(["amd64", "arm64"], var.architecture)
    error_message = "architecture is \"${var.architecture}\"; expected amd64 or arm64."
  }
}

variable "image_id" {
  description = "An AMI with systemd and cloud-init instead of the newest Debian 12."
  type        = string
  default     = null
}

variable "instance_types" {
  description = "Type of machine of each role."
  type        = object({ server = optional(string, "t3.small"), client = optional(string, "m6i.xlarge"), load_balancer = optional(string, "t3.small") })
  default     = {}
  nullable    = false
}

variable "disk_gb" {
  description = "Size of each role's encrypted root disk, in GB."
  type        = object({ server = optional(number, 20), client = optional(number, 100), load_balancer = optional(number, 10) })
  default     = {}
  nullable    = false
}

variable "key_name" {
  description = "EC2 key pair for SSH as user `admin`; without one nobody logs in."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "KMS key for disks and for the secrets in SSM; without it AWS's own (`aws/ebs`, `aws/ssm`)."
  type        = string
  default     = null
}

variable "operator_dir" {
  description = "Folder for the operator's certificate and tokens, made on the machine that Terraform runs on; `clipper-NAME` where it runs without it."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
  nullable    = false
}
