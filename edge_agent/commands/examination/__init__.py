"""What `edge-agent doctor` looks at, one file for each part of the device."""
