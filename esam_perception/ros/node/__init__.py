"""The lifecycle node `esam`: worker, parameters, services, outputs."""
