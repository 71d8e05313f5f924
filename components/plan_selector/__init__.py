"""The PlanSelector component: of several searches' plans, the one to train."""
