"""What is computed of a model and some pairs: plain numbers, of which audits make figures."""
