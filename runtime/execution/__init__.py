"""What a step costs the device: `Executor.launch(step) -> StepFuture` is the only way to it."""
