variable "name" {
  description = "Name of the cluster of machines: a DNS label of at most 32 characters."
  type        = string
}

variable "allowed_cidrs" {
  description = "Who reaches Nomad's and Consul's API, and SSH: the networks that you work from. Everybody is refused."
  type        = list(string)
}

variable "query_cidrs" {
  description = "Who may send queries. 0.0.0.0/0 is everybody."
  type        = list(string)
}

variable "releases" {
  description = "Versions and SHA-256 of Consul, Nomad and Fabio, in releases.auto.tfvars.json."
  type = object({
    consul = object({ version = string, sha256 = map(string) })
    nomad  = object({ version = string, sha256 = map(string) })
    fabio  = object({ version = string, sha256 = map(string) })
  })
}

variable "aws_region" {
  description = "Region of AWS, as eu-west-3."
  type        = string
}

variable "key_name" {
  description = "EC2 key pair for SSH as user admin; null: nobody logs in."
  type        = string
  default     = null
}
