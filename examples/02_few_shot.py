"""Few-shot, many turns: three examples and then one question after another in the same conversation."""

import forktree as ft

EXAMPLES = [("cat", "cats"), ("child", "children"), ("city", "cities")]


@ft.function
def plurals(s, words):
    s += ft.system("Give the plural of each word.")
    for word, plural in EXAMPLES:
        s += ft.user(word)
        s += ft.assistant(plural)
    for word in words:
        s += ft.user(word)
        s += ft.assistant(ft.gen(word, max_tokens=8))


def main():
    words = ["dog", "house", "baby", "box"]
    with ft.Runtime() as runtime:
        state = plurals.run(words, temperature=0, backend=runtime)
        for word in words:
            print(f"{word:6} -> {state[word]}")
        print(f"{len(state.messages())} messages in the conversation")


if __name__ == "__main__":
    main()
