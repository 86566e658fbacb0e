"""Pure rules that stop a trial: ranks and guards."""
