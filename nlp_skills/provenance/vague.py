"""Whether a sentence says what changes in a version, or only that something does: 「調整參數」, "tweak params"."""

from __future__ import annotations

import re

# Words that any version could be described with, by language. English words stand without their endings.
_ENGLISH = """
    a about again all also an and any are as at be been better best both bit by can different do done each few for from
    further get give given go good great had has have how i improved in into is it its just last later less little lot
    made major make many maybe minor miscellaneous misc more most much my new newer next nice now of on one other our
    out over quick quite really same several shall should slight slightly small smaller so some somewhat still such
    than that the their them then these they thing this those to too up us various very was we were what which will
    with work would better big bigger large larger high higher low lower

    adapt add addition adjust adjustment alter alteration apply boost bump change clean configure decrease edit enhance
    enhancement experiment expand extend fiddle fine finetune finetuning fix gain grow hyper improve improvement
    increase iterate iteration modify modification move optimise optimize optimisation optimization play polish
    reconfigure reduce refactor refine refinement remove replace retrain retune rerun revise revision rework run set
    stuff switch test train training try tuning tune tweak update upgrade use

    accuracy attempt config configuration corpus data dataset datum detail example figure hparam hyperparam
    hyperparameter model number option param parameter performance quality record result row sample score setting
    setup task value variant version

    etc fixme ok okay todo tbd wip
"""
_CHINESE = """
    調整 修改 更新 優化 最佳化 增加 新增 加入 添加 增添 增強 改善 改進 改良 改動 變更 變動 更動 更改 改變 微調 提升
    提高 降低 減少 刪除 移除 替換 更換 換成 修正 修復 清理 清洗 整理 處理 擴充 擴增 補充 重新 重訓 重跑 跑 調參 訓練
    測試 嘗試 試試 試 實驗 迭代 升級 使用 採用 進行 執行 設置 設定 配置 參數 超參數 超參 資料 數據 資料集 數據集
    語料 樣本 模型 版本 效能 性能 效果 品質 質量 表現 結果 準確率 準確度 分數 數值 數字 數量 選項 內容 東西 地方
    部分 部份 一些 某些 若干 一點 一下 一次 一個 一版 多個 幾個 各種 各項 相關 其他 其它 全部 所有 這個 那個 這些
    那些 更多 更好 更佳 更大 更小 較多 較大 較小 較好 大量 少量 少許 許多 很多 多一點 少一點 稍微 略微 略 再次 再 又
    更 較 最 多 少 大 小 好 新 舊 高 低 改 調 加 減 增 換 做 了 的 地 得 與 和 及 並 或 以及 在 是 有 為 讓 使 把 將
    對 從 到 個 些 筆 條 則 項 次 版 試著 看看 而已 等 等等 上 下 中的 之 也 都 就 因為 所以 小幅 大幅 細節 優 佳
    小改 小修 大改

    调整 优化 添增 增强 改进 变更 变动 更动 改变 微调 减少 删除 替换 更换 换成 修复 处理 扩充 扩增 补充 重训 调参
    训练 测试 尝试 试试 试 实验 升级 采用 进行 执行 设置 设定 参数 超参数 超参 资料 数据 数据集 资料集 语料 样本
    性能 质量 品质 表现 结果 准确率 准确度 分数 数值 数字 数量 选项 内容 东西 部分 一点 一个 多个 几个 各种 各项
    相关 这个 那个 这些 那些 较多 较大 较小 较好 许多 多一点 少一点 稍微 略微 较 旧 调 减 换 与 并 让 将 对 从 个 笔
    条 则 项 试着 细节
"""
# A number of these is something said: 「新增 200 筆」, "200 more rows".
_COUNTED = re.compile(
    r"\d\s*(?:筆|笔|條|条|則|则|句|輪|轮|列|行)"
    r"|^(?=.*\d).*\b(?:row|sample|example|sentence|review|record|document|text|label|annotation|epoch|step|class)(?:e?s)?\b",
    re.DOTALL,
)
_WORDS = frozenset(_ENGLISH.split())
# The longest first: 資料集 is one word, not 資料 and something said of it.
_PHRASES = re.compile("|".join(sorted(map(re.escape, set(_CHINESE.split())), key=len, reverse=True)))
_VERSION = re.compile(r"\bv\d+(?:\.\d+)?(?:-exp\d*)?\b")
_ENDINGS = ("", "s", "es", "d", "ed", "ing", "ly")


def vague(text: str) -> bool:
    """Whether nothing is left of `text` without the words that fit any version."""
    said = _VERSION.sub(" ", text.casefold())
    if _COUNTED.search(said):
        return False
    left = _PHRASES.sub(" ", said)
    return all(_generic(word) for word in re.findall(r"[^\W\d_]+", left))


def _generic(word: str) -> bool:
    """Whether an English word is on the list, in any of its forms: tweaks, tweaked, tuning, modified."""
    for ending in _ENDINGS:
        stem = word.removesuffix(ending) if ending else word
        if stem in _WORDS or f"{stem}e" in _WORDS:
            return True
        if ending in ("es", "ed") and stem.endswith("i") and f"{stem[:-1]}y" in _WORDS:
            return True
        if ending in ("ed", "ing") and len(stem) > 2 and stem[-1] == stem[-2] and stem[:-1] in _WORDS:
            return True
    return False
