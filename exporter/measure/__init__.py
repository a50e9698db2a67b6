"""How fast engines are beside their baseline, where their time goes, what the machine can do."""
