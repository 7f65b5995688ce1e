terraform {
  required_version = ">= 1.7" # OpenTofu too; no provider is needed
}
