# A cluster on machines of any kind that understand cloud-init: what each is to be started with. It needs no provider.

module "config" {
  source         = "../../modules/cluster-config"
  name           = var.name
  servers        = length(var.server_addresses)
  clients        = var.clients
  load_balancers = var.load_balancers
  retry_join     = var.server_addresses
  allowed_cidrs  = var.allowed_cidrs
  query_cidrs    = var.query_cidrs
  private_cidr   = var.private_cidr
  releases       = var.releases
}
