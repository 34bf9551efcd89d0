"""The case study of liquid water, written up from several run directories."""
