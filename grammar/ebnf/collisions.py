def terminal_collisions(text: str) -> list[str]:
    return []
