//! What every process of ours needs: clock, telemetry, shutdown, health, admin.
