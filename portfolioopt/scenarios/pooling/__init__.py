"""What entropy pooling is made of: views, functions of the scenarios, the dual and its minimum, contradictions."""
