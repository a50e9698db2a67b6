"""How many machines a service needs: measured calls, simulated arrivals, a plan."""
